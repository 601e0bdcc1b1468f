"""`python -m spikegen` is the command `spikegen`."""

from spikegen.cli import main

if __name__ == "__main__":
    main(prog_name="spikegen")

"""Speed of one network evaluation on every target, against named rivals in the same run (`make bench`)."""

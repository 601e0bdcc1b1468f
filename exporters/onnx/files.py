def write_models():
    pass

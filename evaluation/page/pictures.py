def gather_pictures(runs, images):
    return None

"""Read, override and check configs before anything is built from them."""

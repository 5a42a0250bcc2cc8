"""What every part of the suite may use and none of it is about: files, errors, processes, memory."""

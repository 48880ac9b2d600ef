"""Images: cut-outs of radio sources, ring images of line profiles, and their orientations."""

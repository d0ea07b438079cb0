"""Generation data in pictures: ours and A1111's text, written (`write`) and read (`read.read_request`)."""

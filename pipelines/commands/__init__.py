"""Commands other than `segment`, one file each: parser, help and the call into the library."""

"""Commands, one file each: parser, help and the call into the library."""

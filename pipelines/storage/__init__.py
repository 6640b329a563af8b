"""Files here and in stores, which appear whole or not at all."""

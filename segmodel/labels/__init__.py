"""Class table, masks, confusion matrices and label maps."""

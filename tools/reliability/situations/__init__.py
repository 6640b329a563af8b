"""What an operator can do wrong or meet, over all commands, as a table of situations by subject."""

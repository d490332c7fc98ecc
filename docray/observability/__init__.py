"""What an operator sees: log lines and health. Nothing here shows document text, questions, answers or secrets."""

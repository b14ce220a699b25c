"""What a person types: parser, verbs, exit codes, progress, messages."""

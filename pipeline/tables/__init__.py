"""Tables and pictures for a paper: what animals and groups of them do, and how far a model is off."""

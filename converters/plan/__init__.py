"""What a conversion makes: which tensor, in which layout and type, with which metadata."""

"""A first look at somebody's own images, and a first profile for them."""

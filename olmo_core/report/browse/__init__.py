"""A web page over a store: static files that work from a folder, from any web server and from object storage."""

"""What the web app keeps in a database."""

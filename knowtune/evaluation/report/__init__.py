"""The report that people read: what it shows, one page with a module and a template for each section, and its files."""

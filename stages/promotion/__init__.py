"""What is promoted: the model that the gate lets through, and the champion, measured again."""

"""How far texts are apart in meaning."""

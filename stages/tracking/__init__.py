"""What a reproduction did, remembered in MLflow: the only room that knows it."""

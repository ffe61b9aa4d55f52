"""What a run learned and what it lost: metrics, the leaderboard, the report."""

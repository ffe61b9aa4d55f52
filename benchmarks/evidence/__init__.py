"""What the benchmarks behind the evidence pages share: tasks, trainings that go on after a stop, numbers, figures."""

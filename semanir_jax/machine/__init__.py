"""What a program runs on: devices, memory, processes, files."""

"""The true-size architectures, written from their hyper-parameters with random weights."""

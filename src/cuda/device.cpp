// Placeholder of the CUDA device layer.

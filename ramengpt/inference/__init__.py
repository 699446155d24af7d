"""What people run on a trained model: weights, decoding, sampling, evaluation."""

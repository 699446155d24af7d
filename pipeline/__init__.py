"""One file, one stage: what dvc.yaml runs."""

"""Image classification, as ImageNet does it: data, model and metric for mmengine's runner."""

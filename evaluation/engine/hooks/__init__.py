"""What happens beside a training or a test at given moments, as hooks of mmengine's runner."""

"""What a backbone has learnt to look at and to ignore: analyses of a model beside AP and mIoU."""

"""Fixture of a small classifier."""

import argparse

import pytest
import torch

from evaluation.analysis.subject import open_subject
from evaluation.demo.demo import PRETRAINING_STYLE
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.scenes.scene_datasets import write_imagenet
from tests.commands import ROOT


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A small classifier of generated shapes, opened as by the command."""
    folder = tmp_path_factory.mktemp('classifier')
    write_imagenet(folder / 'data', PRETRAINING_STYLE, {'train': 24, 'val': 9}, seed=0)
    config = str(ROOT / 'configs/demo/imagenet_convnext_micro.py')
    options = {
        'test_dataloader.dataset.pipeline.1.input_size': 48,
        'test_dataloader.dataset.pipeline.1.crop_pct': 0.875,
    }
    model = build_model(read_analyzed_config(config, options), None, 0, torch.device('cpu'))
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return open_subject(
        argparse.Namespace(
            backbone=None,
            config=config,
            checkpoint=str(folder / 'model.pth'),
            cfg_options=options,
            checkpoint_key=None,
            device='cpu',
            data_root=str(folder / 'data'),
            skip_bad_images=False,
            limit=3,
            batch=4,
        )
    )

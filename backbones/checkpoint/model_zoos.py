"""Checkpoints that model zoos know by a name."""

from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

from backbones.errors import BackboneError

ZOOS = {
    'torchvision://': get_torchvision_models,
    'modelzoo://': get_torchvision_models,
    'open-mmlab://': get_external_models,
    'openmmlab://': get_external_models,
}


def address_of(source: str) -> str:
    """URL of a name such as `torchvision://resnet50`; paths and URLs stay as they are.

    Raises:
        BackboneError: the zoo has no such name.
    """
    for scheme, addresses in ZOOS.items():
        if source.startswith(scheme):
            name = source.removeprefix(scheme)
            if name not in addresses():
                raise BackboneError(f'checkpoint {source}: {scheme} has no {name}')
            return addresses()[name]
    return source

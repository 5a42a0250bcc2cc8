"""Base class of backbones: pretrained weights with a report, and batch norms in eval mode."""

from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.checkpoint.pretrained import load_pretrained


class LoadableModule(BaseModule):
    """A module whose `init_cfg` loads a checkpoint, in its own or in published names, with a report.

    Attributes:
        loads_strictly: whether most of the weights must be in the checkpoint; see `load_pretrained`.
    """

    loads_strictly = True

    def init_weights(self) -> None:
        """Load the checkpoint in `init_cfg`, if any; parameters are initialized at construction.

        Raises:
            BackboneError: the checkpoint does not fit this backbone.
        """
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            config = self.init_cfg
            load_pretrained(self, config['checkpoint'], config.get('prefix'), config.get('key'))
            self._is_init = True
        else:
            super().init_weights()

    def keep_batch_norms_in_eval_mode(self) -> None:
        """Set all batch norms to eval mode, for `norm_eval`."""
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()

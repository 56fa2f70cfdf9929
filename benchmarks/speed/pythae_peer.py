"""pythae: its VAE and IWAE with the same networks, trained by its own trainer."""

from __future__ import annotations

import logging
import math
import tempfile

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from .contestants import Run
from .handwritten import body, decoder
from .tasks import PIXELS, RATE, Autoencoder, images


class Encoder(BaseEncoder):  # type: ignore[misc]
    def __init__(self, task: Autoencoder) -> None:
        super().__init__()
        self.body, features = body(task)
        self.embedding, self.log_variance = nn.Linear(features, task.latent), nn.Linear(features, task.latent)

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.body(x)
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):  # type: ignore[misc]
    def __init__(self, task: Autoencoder) -> None:
        super().__init__()
        self.net = decoder(task)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))


def build(task: Autoencoder) -> Run:
    """Epochs of the trainer over `task.steps` batches: it cannot stop inside one, nor run fewer steps."""
    torch.manual_seed(0)
    logging.disable(logging.INFO)
    settings = {"input_dim": (PIXELS,), "latent_dim": task.latent, "reconstruction_loss": "bce"}
    kind, config = VAE, VAEConfig(**settings)
    if task.samples > 1:
        kind, config = IWAE, IWAEConfig(**settings, number_samples=task.samples)
    model = kind(config, Encoder(task), Decoder(task))
    trainers: dict[int, BaseTrainer] = {}
    grey = torch.from_numpy(images()[0]).float() / 255

    def trainer(steps: int) -> BaseTrainer:
        if steps not in trainers:
            count = steps * task.batch
            trainers[steps] = BaseTrainer(
                model,
                BaseDataset(grey[:count], torch.zeros(count)),
                training_config=BaseTrainerConfig(
                    output_dir=tempfile.mkdtemp(prefix="pythae-"),
                    per_device_train_batch_size=task.batch,
                    learning_rate=RATE,
                    no_cuda=True,
                ),
            )
            trainers[steps].prepare_training()
        return trainers[steps]

    def run(steps: int) -> float:
        chosen = trainer(steps)
        loaders = {"train_loader": chosen.train_loader, "eval_loader": None}
        chosen.callback_handler.on_epoch_begin(training_config=chosen.training_config, epoch=1, **loaders)
        loss = float(chosen.train_step(1))
        return -loss if task.samples == 1 else math.nan  # its importance-weighted loss is not the bound

    return run

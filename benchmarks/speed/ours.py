"""Latentia: the loop that `fit` runs, without validation rows, files and progress bar."""

from __future__ import annotations

from itertools import islice

import torch

import latentia as lt
from latentia.data import Image, Rows, Schema
from latentia.learn.ascent import Plan, Progress, ascend
from latentia.learn.engine import build_engine
from latentia.schedules import learning_rate

from .contestants import Run
from .tasks import PIXELS, RATE, SIDE, Autoencoder, images

ENDLESS = 10**9


def build(task: Autoencoder, compiled: bool, bf16: bool) -> Run:
    event = (1, SIDE, SIDE) if task.conv else (PIXELS,)
    pixels = torch.from_numpy(images()[0]).reshape(-1, *event)
    rows = Rows(Schema({"x": Image(event)}), {"x": pixels}, None, torch.arange(len(pixels)))
    model = lt.models.vae(
        event,
        task.latent,
        hidden=task.hidden,
        conv=task.conv,
        activation=task.activation,
        likelihood="bernoulli",
    )
    engine = build_engine(
        model,
        lt.iwae if task.samples > 1 else lt.elbo,
        {"samples": task.samples},
        optimizer="adam",
        lr=RATE,
        schedule=learning_rate("constant", ENDLESS),
        clip=None,
        alternate=False,
        bf16=bf16,
        seed=0,
    )
    values = model.batch(rows, torch.arange(task.batch))
    engine.probe(values)
    if compiled:
        reason = engine.compile(values)
        if reason is not None:
            raise RuntimeError(f"the step could not be compiled: {reason}")
    step = 0

    def run(steps: int) -> float:
        nonlocal step
        plan = Plan(
            step + steps,
            task.batch,
            valid_every=ENDLESS,
            report_every=steps,
            checkpoint_every=ENDLESS,
            patience=None,
        )
        training = islice(ascend(engine, rows, None, plan, Progress(step)), steps)
        records = [record for told in training for record in told]
        step += steps
        return float(records[-1]["bound"])

    return run

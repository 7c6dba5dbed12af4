"""Watching attention while a model trains: a plain loop, Lightning, and the Hugging Face Trainer.

    python examples/during_training.py plain
    python examples/during_training.py lightning   # pip install lightning
    python examples/during_training.py trainer     # pip install transformers accelerate

There is nothing to subclass: the tests are functions that leave a model as it was, its mode,
gradients and random state included, so that any hook may call them. The task: a sentence is
positive if it holds the word "good", wherever it stands. Accuracy tells that the model has learned
it; the two numbers beside it tell how much of that is read off by attention.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import Batch, audit

WORDS = ["<pad>", "good", "bad", *(f"word{number}" for number in range(27))]
EPOCHS = 4
RATE = 0.01


class Classifier(nn.Module):
    """Words, additive attention, a decision; the loss where labels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), 16, padding_idx=0)
        self.score, self.decide = nn.Linear(16, 1), nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        states = self.embed(input_ids)
        scores = self.score(states.tanh()).squeeze(-1)
        attention = scores.masked_fill(input_ids == 0, -1e9).softmax(-1)
        logits = self.decide((attention[..., None] * states).sum(1))
        if labels is None:
            return logits
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def sentences(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sentences of twelve words and whether "good" is among them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, len(WORDS), (count, 12), generator=generator)
    labels = torch.randint(0, 2, (count,), generator=generator)
    places = torch.randint(0, 12, (count,), generator=generator)
    ids[torch.arange(count), places] = 2 - labels
    return ids, labels


TRAIN, TEST = sentences(400, seed=0), sentences(64, seed=1)


def look(model: nn.Module, epoch: int) -> None:
    """What every hook calls: accuracy and two tests on held-out sentences, one line."""
    ids, labels = TEST
    report = audit(
        model,
        [Batch(ids, labels=labels)],
        metrics=["loo_correlation", "permutation_test"],
        keep_positions=False,
    )
    accuracy = float((report.column("predicted") == report.column("label")).mean())
    cells = [
        f"{each.quantity} {each.overall.mean:.2f} ({each.overall.low:.2f}..{each.overall.high:.2f})"
        f" {verdict.conclusion}"
        for each, verdict in zip(report.evidence, report.verdicts, strict=True)
    ]
    print("; ".join([f"epoch {epoch}: accuracy {accuracy:.2f}", *cells]))


def plain() -> None:
    """A loop of one's own: call it where the epoch ends."""
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        for ids, labels in zip(*(each.split(32) for each in TRAIN), strict=True):
            optimizer.zero_grad()
            model(ids, labels)["loss"].backward()
            optimizer.step()
        look(model, epoch + 1)


def lightning() -> None:
    """Lightning: call it in the hook of the module that already exists for this."""
    import lightning as pl

    class Training(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = Classifier()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return self.classifier(*batch)["loss"]

        def on_train_epoch_end(self) -> None:
            if self.trainer.is_global_zero:
                look(self.classifier, self.current_epoch + 1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*TRAIN), batch_size=32)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Training(), data)


def trainer() -> None:
    """Hugging Face: call it from the callback that the Trainer offers."""
    import tempfile

    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Look(TrainerCallback):
        def on_epoch_end(self, *given: Any, model: nn.Module, **_: Any) -> None:
            state = given[1]
            if state.is_world_process_zero:
                look(model, round(state.epoch))

    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(*TRAIN, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=32,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(Classifier(), arguments, train_dataset=rows, callbacks=[Look()]).train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ["plain"]:
        torch.manual_seed(0)
        {"plain": plain, "lightning": lightning, "trainer": trainer}[name]()

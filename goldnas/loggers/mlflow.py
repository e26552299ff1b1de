"""MLflow: parameters, metrics and the front, on the configured tracking server."""

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# MLflow reports its use to its makers unless it is told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow

from goldnas.loggers.listener import Row
from goldnas.loggers.run_id import keep_run_id, read_run_id


class MlflowLogger:
    """A run at MLflow. MLflow's environment variables set the server and the experiment.

    Repeated steps are not logged again, because MLflow cannot forget values.

    Args:
        folder: Folder of the run; it gives the run at MLflow its name.
        settings: Settings of the run, logged as parameters.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        known = read_run_id(folder, "mlflow")
        run = mlflow.start_run(
            run_id=known, run_name=str(folder), nested=mlflow.active_run() is not None
        )
        self._id = run.info.run_id
        self._last = self._done = -1
        if known is None:
            keep_run_id(folder, "mlflow", self._id)
            mlflow.log_params(dict(settings))
        else:
            client = mlflow.MlflowClient()
            self._last = max(
                (
                    metric.step
                    for name in run.data.metrics
                    for metric in client.get_metric_history(self._id, name)
                ),
                default=-1,
            )

    def begin(self, step: int) -> None:
        """Leave out, from now on, the steps that are logged already."""
        self._done = self._last

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Log metrics."""
        if step > self._done:
            # It takes no @, as in latency@pi5.
            figures = {re.sub(r"[^\w\-./ ]", "_", name): v for name, v in scalars.items()}
            mlflow.log_metrics(figures, step=step, run_id=self._id)
            self._last = step

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Log a table as an artifact, which MLflow shows as one."""
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        mlflow.log_text(lines.getvalue(), f"{name}.csv", run_id=self._id)

    def close(self, *, finished: bool) -> None:
        """End the run at MLflow, as finished or as killed."""
        mlflow.end_run("FINISHED" if finished else "KILLED")


logger = MlflowLogger

"""Times ONNX models on the machine it runs on; needs numpy and onnxruntime alone.

Self-contained, and Python 3.9 is enough, so that it also runs where goldnas is not installed.
A model runs on what its metadata says; without, on random numbers, or 0 where they are whole.

``python runner.py JOB.json`` does one job and ends. A job is

    {"models": {"name": {"path": "path.onnx", "sha256": "..."}},
     "provider": "CPUExecutionProvider", "provider_options": {}, "threads": 1, "cores": [],
     "rounds": 5, "warmup_ms": 4, "visit_ms": 20, "min_calls": 7, "seed": 0, "hot_c": 80,
     "nodes": false}

and each line of the answer is one visit, in the order measured, or one failure, or the state of
the machine before a round, where it can be read (visits are broken in two here):

    {"model": "name", "calls": 700, "min_us": 20.1, "p10_us": 20.4, "p25_us": 20.5,
     "median_us": 20.9}
    {"model": "name", "error": "why, in one line"}
    {"round": 0, "temperature_c": 61.2, "frequency_mhz": 2400, "waited_s": 0}

With "nodes", a model is not visited but run under the runtime's own profiler, and answered by
one line per node, in the order they run:

    {"model": "name", "node": "conv1", "operator": "Conv", "provider": "CPUExecutionProvider",
     "output": "1x16x32x32", "latency_us": 17.5}

With "loop", each visit of a model is followed by so many calls of it, at a rate with idle gaps
between calls, or beside busy processes, which rest during visits. They are answered by the time
of each call:

    {"rate_hz": 15.0, "neighbours": 0, "calls": 20, "warmup_calls": 3, "least_s": 0.1}
    {"model": "name", "calls_us": [410.2, 398.7, ...]}

A loop may have a "pipeline", ``module:function``, and a "path" to find it on. The function
returns two: one makes the inputs of a call, the other takes its outputs. Both are timed too,
and what a call took besides the model is answered as "around_us".

Without a job it serves: it reads requests, a line each, and does each job in a fresh process.
Models are stored once, by their checksum, in a folder that is gone when the requests end,
however they end.

    {"do": "facts"}
    {"do": "store", "sha256": "...", "size": 1000}       followed by so many bytes
    {"do": "run", "job": {"models": {"name": "sha256"}, ...}}

A job with a "program" is done by that module, such as ``goldnas.profiling.gpu_runner``.

The answer to a request ends with ``{"done": ...}`` or ``{"failed": "why, in one line"}``.
"""

import base64
import hashlib
import importlib
import json
import os
import platform
import queue
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

try:
    import numpy as np
    import onnxruntime as ort
except ImportError as missing:
    sys.exit(f"{sys.executable}: {missing}")

READY = "goldnas runner"
"""Begins the line that says that it serves: what came before is somebody else's greeting."""

INPUTS = "goldnas.runner.inputs"
"""Key of a model's metadata: a model in base64 that puts out what the inputs are to be."""

NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}
"""Types that numpy has."""

LONGEST_WAIT_S = 120
"""For a hot machine to cool down, before a round."""

MOST_CALLS = 1000
"""Calls of a model in a round beside busy processes, where short calls go on until it is no
instant."""

MISSED_SHARE = 0.05
"""Of the ticks of a rate: if more are missed because a call took longer, there is no rate."""

NEIGHBOUR = """
import os, threading
import numpy as np
busy = threading.Event()
def listen():
    while told := os.read(0, 1):
        busy.set() if told == b"1" else busy.clear()
    os._exit(0)
threading.Thread(target=listen, daemon=True).start()
one = np.ones((256, 256), np.float32)
one @ one
print(flush=True)
while busy.wait():
    one @ one
"""
"""A process that is busy after a 1 and rests after a 0. It ends with its input, and so with
whoever started it."""

RESTED_S = 0.02
"""After which busy processes surely rest, or are busy again."""

GUARD = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], True)"
"""Removes a folder once its owner is gone, also if that was killed."""


# -- one job -----------------------------------------------------------------------------------


def send_answer(**fields: object) -> None:
    """Send one line. When nobody listens any more this fails, and so ends the work."""
    print(json.dumps(fields), flush=True)


def in_one_line(error: Exception) -> str:
    """What an error says, or else its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def end_with_input() -> None:
    """End this process with the pipe that is its input: when who started it is gone.

    A thread that waits for it takes no time from what is measured.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):  # somebody has started it by hand
        return

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def load(
    model: dict[str, str], job: dict[str, Any], *, profile: str = ""
) -> tuple[ort.InferenceSession, ort.IOBinding]:
    """Open a model with its inputs and outputs bound, so that a call copies nothing.

    Args:
        model: Path and checksum.
        job: With threads and provider.
        profile: How the name of the runtime's own profile begins; empty for none.

    Raises:
        ValueError: If the model is another, the provider is not there, or nothing says what
            an input is to be.
        Exception: Whatever the runtime raises for a model it rejects.
    """
    content = Path(model["path"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != model["sha256"]:
        raise ValueError("the model's checksum differs from the one that was announced")
    provider, available = job["provider"], ort.get_available_providers()
    if provider not in available:  # onnxruntime would take another with a warning
        raise ValueError(f"{provider} is not in this build, which has {', '.join(available)}")
    options = make_options(job["threads"])
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    # From bytes: given a path, the runtime repeats it in its errors.
    session = ort.InferenceSession(
        content, options, providers=[(provider, job["provider_options"])]
    )
    if session.get_providers()[0] != provider:
        raise ValueError(f"{provider} did not start; {session.get_providers()[0]} would run it")
    binding = session.io_binding()
    for name, value in make_inputs(session, job["threads"]).items():
        binding.bind_ortvalue_input(name, value)
    outputs = session.get_outputs()
    let_allocate(session, binding)
    session.run_with_iobinding(binding)
    if all(entry.type in NUMBERS for entry in outputs):
        # Shapes of outputs may be symbolic even so: one run tells them.
        for entry, result in zip(outputs, binding.get_outputs()):  # noqa: B905 (is 3.10)
            buffer = ort.OrtValue.ortvalue_from_shape_and_type(
                result.shape(), NUMBERS[result.data_type()]
            )
            binding.bind_ortvalue_output(entry.name, buffer)
    return session, binding


def make_options(threads: int) -> ort.SessionOptions:
    """Options of a session; the runtime refuses threads of its own beside shared ones."""
    options = ort.SessionOptions()
    if threads > 1:
        options.use_per_session_threads = False  # see share_threads
    else:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def make_inputs(session: ort.InferenceSession, threads: int) -> "dict[str, ort.OrtValue]":
    """What a model runs on, by the names of its inputs.

    Raises:
        ValueError: If its metadata does not say, and an input is not numbers of a fixed shape.
    """
    told = session.get_modelmeta().custom_metadata_map.get(INPUTS)
    if told is not None:
        return run_maker(told, threads)
    generator = np.random.default_rng(0)
    made: "dict[str, ort.OrtValue]" = {}  # noqa: UP037 (is 3.10)
    for entry in session.get_inputs():
        kind = NUMBERS.get(entry.type)
        if kind is None or not all(isinstance(size, int) for size in entry.shape):
            raise ValueError(
                f"input {entry.name!r} is {entry.type} of shape {entry.shape}; "
                "only numbers of a fixed shape can be measured"
            )
        real = np.issubdtype(kind, np.floating)
        values = generator.standard_normal(entry.shape) if real else np.zeros(entry.shape)
        made[entry.name] = ort.OrtValue.ortvalue_from_numpy(np.asarray(values).astype(kind))
    return made


def run_maker(told: str, threads: int = 1) -> "dict[str, ort.OrtValue]":
    """What the model puts out that the metadata of another one holds."""
    maker = ort.InferenceSession(
        base64.b64decode(told), make_options(threads), providers=["CPUExecutionProvider"]
    )
    binding = maker.io_binding()
    let_allocate(maker, binding)
    maker.run_with_iobinding(binding)
    names = [entry.name for entry in maker.get_outputs()]
    return dict(zip(names, binding.get_outputs()))  # noqa: B905 (is 3.10)


def let_allocate(session: ort.InferenceSession, binding: ort.IOBinding) -> None:
    """Have the runtime find memory for outputs in the next call, whatever they are."""
    binding.clear_binding_outputs()
    for entry in session.get_outputs():
        binding.bind_output(entry.name)


def visit(
    session: ort.InferenceSession,
    binding: ort.IOBinding,
    warmup_ms: float,
    visit_ms: float,
    min_calls: int,
) -> dict[str, float]:
    """Warm up, then time single calls; quantiles in microseconds."""
    # Texts of the last call may be added to: they need memory of their own in each.
    if all(entry.type in NUMBERS for entry in session.get_outputs()):
        try:
            return time_calls(session, binding, warmup_ms, visit_ms, min_calls, anew=False)
        except Exception:  # an output of another size than in the first call does not fit
            pass
    return time_calls(session, binding, warmup_ms, visit_ms, min_calls, anew=True)


def time_calls(
    session: ort.InferenceSession,
    binding: ort.IOBinding,
    warmup_ms: float,
    visit_ms: float,
    min_calls: int,
    *,
    anew: bool,
) -> dict[str, float]:
    """As :func:`visit`; outputs in memory that the last call used, or anew for each call."""
    call, clock_ns = session.run_with_iobinding, time.perf_counter_ns
    end_ns = clock_ns() + warmup_ms * 1e6
    while clock_ns() < end_ns:
        if anew:
            let_allocate(session, binding)
        call(binding)
    samples_ns: list[int] = []
    end_ns = clock_ns() + visit_ms * 1e6
    while len(samples_ns) < min_calls or clock_ns() < end_ns:
        if anew:
            let_allocate(session, binding)
        start_ns = clock_ns()
        call(binding)
        samples_ns.append(clock_ns() - start_ns)
    return summarize(samples_ns)


def summarize(samples_ns: "list[int]") -> dict[str, float]:
    """A visit, from the nanoseconds of its calls: quantiles in microseconds."""
    low, p10, p25, median = np.quantile(samples_ns, [0, 0.1, 0.25, 0.5]) / 1e3
    return {
        "calls": len(samples_ns),
        "min_us": low,
        "p10_us": p10,
        "p25_us": p25,
        "median_us": median,
    }


class LoopCaller:
    """Calls one model in a loop.

    Args:
        session: The model.
        binding: Its inputs.
        loop: How to call it.
        rounds: How often :meth:`time` is called.

    Raises:
        ValueError: If the functions around the model fail.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        binding: ort.IOBinding,
        loop: dict[str, Any],
        rounds: int,
    ) -> None:
        self._loop = loop
        self._model_ns: list[int] = []
        if loop.get("pipeline"):
            name, path = loop["pipeline"], loop["path"]
            self._call = make_pipeline(session, name, path, self._model_ns)
        else:
            self._call = make_call(session, binding)
        self._missed = 0
        self._allowed = max(3, MISSED_SHARE * loop["calls"] * rounds)

    def time(self) -> dict[str, list[float]]:
        """Time the calls of a round, in microseconds.

        Raises:
            ValueError: If the model cannot keep the rate.
            Exception: Whatever the runtime raises for a model that fails.
        """
        self._model_ns.clear()
        samples_ns = self._time_paced() if self._loop["rate_hz"] else self._time_at_once()
        found = {"calls_us": [round(ns / 1e3, 3) for ns in samples_ns]}
        if self._model_ns:
            timed = self._model_ns[-len(samples_ns) :]  # the calls before warm up
            pairs = zip(samples_ns, timed)  # noqa: B905 (is 3.10)
            found["around_us"] = [round((ns - model_ns) / 1e3, 3) for ns, model_ns in pairs]
        return found

    def _time_at_once(self) -> list[int]:
        """Nanoseconds of calls that follow at once."""
        loop, call, clock_ns = self._loop, self._call, time.perf_counter_ns
        for _ in range(loop["warmup_calls"]):
            call()
        samples_ns: list[int] = []
        end_ns = clock_ns() + loop["least_s"] * 1e9
        while len(samples_ns) < loop["calls"] or (
            clock_ns() < end_ns and len(samples_ns) < MOST_CALLS
        ):
            start_ns = clock_ns()
            call()
            samples_ns.append(clock_ns() - start_ns)
        return samples_ns

    def _time_paced(self) -> list[int]:
        """Nanoseconds of calls at a rate, each of which waits for the next tick of a clock."""
        loop, call, clock_ns = self._loop, self._call, time.perf_counter_ns
        period_ns = round(1e9 / loop["rate_hz"])
        samples_ns: list[int] = []
        tick_ns = clock_ns()
        for number in range(-loop["warmup_calls"], loop["calls"]):
            tick_ns += period_ns
            late_ns = clock_ns() - tick_ns
            if late_ns > 0:
                tick_ns += (late_ns // period_ns + 1) * period_ns
                self._missed += number > 0  # the calls before warm up
            time.sleep(max(0, tick_ns - clock_ns()) / 1e9)
            start_ns = clock_ns()
            call()
            took_ns = clock_ns() - start_ns
            if number >= 0:
                samples_ns.append(took_ns)
            if self._missed > self._allowed:
                slow_ns = np.quantile(samples_ns, 1 - MISSED_SHARE)
                raise ValueError(
                    f"cannot keep {loop['rate_hz']:g} calls a second: a call takes "
                    f"{np.median(samples_ns) / 1e6:.3g} ms, and 1 in {1 / MISSED_SHARE:.0f} "
                    f"{slow_ns / 1e6:.3g} ms, so at most {1e9 / slow_ns:.3g} calls a second"
                )
        return samples_ns


def make_call(session: ort.InferenceSession, binding: ort.IOBinding) -> Any:
    """One call of a model on its own inputs."""
    anew = any(entry.type not in NUMBERS for entry in session.get_outputs())
    if not anew:
        try:
            session.run_with_iobinding(binding)
        except Exception:  # as for a visit: an output of another size does not fit
            anew = True

    def call() -> None:
        if anew:
            let_allocate(session, binding)
        session.run_with_iobinding(binding)

    return call


def make_pipeline(
    session: ort.InferenceSession, name: str, path: "list[str]", model_ns: "list[int]"
) -> Any:
    """One call of a model between a user's own functions.

    Args:
        session: The model.
        name: ``module:function``.
        path: Where to find it.
        model_ns: Is given the nanoseconds of the model alone, in each call.

    Raises:
        ValueError: If one of them fails, now or in a call.
    """
    inputs = [entry.name for entry in session.get_inputs()]
    module, _, function = name.partition(":")
    sys.path[:] = path
    try:
        steps: Any = importlib.import_module(module)
        for attribute in function.split("."):
            steps = getattr(steps, attribute)
        found = steps()
    except Exception as error:
        raise ValueError(f"{name} fails: {type(error).__name__}: {error}") from None
    pair = found if isinstance(found, (tuple, list)) else ()
    if len(pair) != 2 or not all(callable(one) for one in pair):
        raise ValueError(
            f"{name} returns {type(found).__name__}, and not two functions, before and after"
        )
    before, after = pair

    def call() -> None:
        try:
            given = before()
        except Exception as error:
            raise ValueError(f"{name} fails before: {type(error).__name__}: {error}") from None
        if not isinstance(given, dict):
            given = {inputs[0]: given}
        start_ns = time.perf_counter_ns()
        outputs = session.run(None, given)
        model_ns.append(time.perf_counter_ns() - start_ns)
        try:
            after(outputs)
        except Exception as error:
            raise ValueError(f"{name} fails after: {type(error).__name__}: {error}") from None

    return call


def start_neighbours(count: int) -> "list[subprocess.Popen[bytes]]":
    """Start processes that are to be busy, and rest; they end with this process."""
    one_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **one_thread},
        )
        for _ in range(count)
    ]
    for process in started:
        if process.stdout is None or not process.stdout.readline():
            sys.exit(f"cannot start {count} busy processes beside the model")
    return started


def tell_neighbours(neighbours: "list[subprocess.Popen[bytes]]", *, busy: bool) -> None:
    """Let processes be busy, or rest."""
    for process in neighbours:
        if process.stdin is not None:
            process.stdin.write(b"1" if busy else b"0")
            process.stdin.flush()
    if neighbours:
        time.sleep(RESTED_S)


def profile_nodes(model: dict[str, str], job: dict[str, Any]) -> list[dict[str, object]]:
    """Run a model under the runtime's profiler: its nodes, as the runtime has them.

    The profiler has whole microseconds, so that a latency is a mean: of the faster half of the
    calls, which the machine's slow phases leave alone.
    """
    session, binding = load(model, job, profile=str(Path(model["path"]).with_suffix("")))
    visit(session, binding, 10 * job["warmup_ms"], 10 * job["visit_ms"], job["min_calls"])
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    runs = sum(event.get("name") == "model_run" for event in events)
    for event in events:
        args = event.get("args", {})
        name = event.get("name", "")
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        if args["op_name"] in ("If", "Loop", "Scan"):  # the nodes within are there as well
            continue
        node = nodes.setdefault((name, args.get("node_index", "")), {**args, "us": []})
        node["us"].append(event["dur"])
    found: list[dict[str, object]] = []
    for (name, _), node in nodes.items():
        calls = np.sort(node["us"])
        output: list[int] = next(iter((node.get("output_type_shape") or [{}])[0].values()), [])
        found.append(
            {
                "node": name[: -len("_kernel_time")],
                "operator": node["op_name"],
                "provider": node["provider"],
                "output": "x".join(map(str, output)),
                # A node in a loop runs several times a call, one in a branch not always.
                "latency_us": float(
                    np.mean(calls[: (len(calls) + 1) // 2]) * len(calls) / runs
                ),
            }
        )
    return found


def settle(hot_c: float, longest_s: float) -> dict[str, float]:
    """Wait while the machine is hot; how hot it is, and how fast its fastest core."""
    began = time.monotonic()
    while (degrees := read_highest("/sys/class/thermal", "thermal_zone*/temp")) is not None:
        if degrees / 1000 <= hot_c or time.monotonic() >= began + longest_s:
            break
        time.sleep(1)
    # The fastest is the one that this runs on, or as fast; the others may idle.
    kilohertz = read_highest("/sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq")
    state = {}
    if degrees is not None:
        state["temperature_c"] = degrees / 1000
        state["waited_s"] = round(time.monotonic() - began)
    if kilohertz is not None:
        state["frequency_mhz"] = kilohertz / 1000
    return state


def share_threads(threads: int) -> None:
    """Give all models the same threads.

    Threads of their own would wait for work in a loop, and take the cores from the model that
    has some: with six models in a process, times of one were 55, 66 or 150 us.
    """
    if threads == 1:
        return
    if not hasattr(ort, "set_global_thread_pool_sizes"):
        sys.exit(f"onnxruntime {ort.__version__} cannot share threads; 1.23 and later can")
    ort.set_global_thread_pool_sizes(threads, 1)


def read_highest(folder: str, pattern: str) -> Any:
    """The largest number in some files; None if there is none that can be read."""
    found = []
    for file in Path(folder).glob(pattern):
        try:
            found.append(int(file.read_text()))
        except (OSError, ValueError):
            continue
    return max(found, default=None)


def run(job: dict[str, Any]) -> None:
    """Do a job; its answers are written after each round."""
    lines: list[str] = []
    answers, sys.stdout = sys.stdout, sys.stderr  # what a user's function prints is no answer

    def answer(**fields: object) -> None:
        # Written after a round, not within: who reads it would take a core from the threads.
        lines.append(json.dumps(fields))

    def send() -> None:
        # Flushed: when the parent is gone this fails, and so ends the work.
        print("\n".join([*lines, ""]), end="", flush=True, file=answers)
        lines.clear()

    ort.set_default_logger_severity(4)
    loop = job.get("loop")
    # Before this process is bound to cores: the system puts them where it likes.
    neighbours = start_neighbours(loop["neighbours"]) if loop else []
    if job.get("cores"):
        try:
            os.sched_setaffinity(0, job["cores"])
        except (OSError, AttributeError):
            sys.exit(f"cannot run on cores {job['cores']} of {os.cpu_count()}")
    share_threads(job["threads"])
    loaded, callers = {}, {}
    for name, model in job["models"].items():
        try:
            if job.get("nodes"):
                for node in profile_nodes(model, job):
                    answer(model=name, **node)
            else:
                parts = load(model, job)
                if loop:
                    callers[name] = LoopCaller(*parts, loop, job["rounds"])
                loaded[name] = parts
        except Exception as error:  # the runtime has a dozen kinds; each is this model's alone
            answer(model=name, error=" ".join(str(error).split()))
    send()
    order = list(loaded)
    shuffle = random.Random(job["seed"]).shuffle
    patience_s: float = LONGEST_WAIT_S
    for number in range(job["rounds"] if order else 0):
        if state := settle(job["hot_c"], patience_s):
            answer(round=number, **state)
        if state.get("waited_s", 0) >= patience_s:
            patience_s = 0  # it does not get cooler
        shuffle(order)
        for name in list(order):
            settings = (job["warmup_ms"], job["visit_ms"], job["min_calls"])
            try:
                answer(model=name, **visit(*loaded[name], *settings))
                if loop:
                    tell_neighbours(neighbours, busy=True)
                    answer(model=name, **callers[name].time())
                    send()  # nothing is measured now, and a slow rate takes minutes a model
            except Exception as error:  # it ran once, and does not always
                order.remove(name)
                answer(model=name, error=" ".join(str(error).split()))
            tell_neighbours(neighbours, busy=False)
        send()
    for process in neighbours:
        process.kill()
        process.wait()


# -- serving -----------------------------------------------------------------------------------


def collect_facts() -> dict[str, object]:
    """What this machine is, and what its onnxruntime can do."""
    return {
        "cpu_model": read_cpu_model(),
        "architecture": platform.machine() or "unknown",
        "os": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "onnxruntime": ort.__version__,
        "providers": ort.get_available_providers(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "shares_threads": hasattr(ort, "set_global_thread_pool_sizes"),
    }


def read_cpu_model() -> str:
    """What the processor calls itself; "unknown" where the system does not tell."""
    if sys.platform == "darwin":  # platform.processor() is "arm" on every Mac
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        reply = subprocess.run(command, capture_output=True, text=True, check=False)
        return reply.stdout.strip() or "unknown"
    try:  # boards; their processors have no names, or those of many
        return Path("/proc/device-tree/model").read_text().strip("\0 \n")
    except OSError:
        pass
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("model name", "model"):
                if value.strip().isdigit():
                    continue  # on x86, "model" is a number
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


class Server:
    """Answers requests from standard input, until it ends.

    Args:
        source: Source of this file, which the processes of the jobs run.
        folder: Where to put a folder for models.
    """

    def __init__(self, source: bytes, folder: str) -> None:
        self._source = source
        self._folder = Path(folder)
        self._child: "subprocess.Popen[bytes] | None" = None  # noqa: UP037 (is 3.10)
        self._ended = False
        # A file of its own: a thread that waits in sys.stdin would not let the program end.
        self._input = open(os.dup(0), "rb")  # noqa: SIM115

    def serve(self) -> None:
        """Store, run and answer."""
        (self._folder / "runner.py").write_bytes(self._source)
        requests: "queue.Queue[tuple[dict[str, Any], bytes] | None]" = queue.Queue()  # noqa: UP037
        threading.Thread(target=self._read, args=[requests], daemon=True).start()
        tell({"done": READY}, prefix=READY + " ")
        while True:
            request = requests.get()
            if request is None:
                return
            header, body = request
            try:
                tell({"done": getattr(self, "_" + header["do"])(header, body)})
            except BrokenPipeError:
                return
            except (OSError, ValueError) as error:
                said = getattr(error, "strerror", None) or str(error)
                tell({"failed": f"{said} (in {self._folder.parent})"})

    def _read(self, requests: Any) -> None:
        """Read ahead: the end of the input has to end a job, also within a request."""
        try:
            while True:
                line = self._input.readline()
                if not line.endswith(b"\n"):
                    break
                header = json.loads(line)
                body = self._input.read(header.get("size", 0))
                if len(body) < header.get("size", 0):
                    break
                requests.put((header, body))
        finally:
            self._ended = True
            if self._child is not None:
                self._child.kill()
            requests.put(None)

    def _facts(self, header: dict[str, Any], body: bytes) -> dict[str, object]:
        return collect_facts()

    def _store(self, header: dict[str, Any], body: bytes) -> dict[str, object]:
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise ValueError("a model arrived with another checksum than announced")
        self._path(header["sha256"]).write_bytes(body)
        return {}

    def _run(self, header: dict[str, Any], body: bytes) -> dict[str, object]:
        job = header["job"]
        job["models"] = {
            name: {"path": str(self._path(sha256)), "sha256": sha256}
            for name, sha256 in job["models"].items()
        }
        job_file = self._folder / "job.json"
        job_file.write_text(json.dumps(job))
        with tempfile.TemporaryFile(dir=self._folder) as said:
            program = [str(self._folder / "runner.py")]
            if "program" in job:  # a module that is installed here, and not sent
                program = ["-P", "-m", job["program"]]
            command = [sys.executable, *program, str(job_file)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            ) as self._child:
                try:
                    if self._ended:
                        self._child.kill()
                    line = b""
                    for line in self._child.stdout or ():
                        sys.stdout.buffer.write(line)
                        sys.stdout.buffer.flush()
                    if line and not line.endswith(b"\n"):  # it died while it wrote
                        sys.stdout.buffer.write(b"\n")
                except BaseException:
                    self._child.kill()
                    raise
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
        return {"status": self._child.returncode, "said": "".join(last)}

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError(f"{sha256[:70]!r} is not a checksum")
        return self._folder / f"{sha256}.onnx"


def tell(message: dict[str, object], prefix: str = "") -> None:
    """Send one line."""
    sys.stdout.buffer.write((prefix + json.dumps(message) + "\n").encode())
    sys.stdout.buffer.flush()


def serve(source: bytes, place: "str | None" = None) -> None:
    """Serve from a folder of its own.

    Args:
        source: Source of this file.
        place: Where the folder is made; wherever temporary ones are, if not given.
    """

    def end(*_: object) -> NoReturn:
        sys.exit(1)

    for name in ("SIGTERM", "SIGHUP", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    try:
        folder = tempfile.TemporaryDirectory(prefix="goldnas-", dir=place)
    except OSError as error:
        sys.exit(f"no temporary folder for models: {error}")
    guard = subprocess.Popen(
        [sys.executable, "-c", GUARD, folder.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with folder:
            Server(source, folder.name).serve()
    except OSError as error:  # of the folder; or nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"cannot go on: {error}")
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait()


if __name__ == "__main__":
    if "SOURCE" in globals():  # it came through standard input
        serve(globals()["SOURCE"], globals()["PLACE"])
    else:
        end_with_input()
        with open(sys.argv[1]) as file:
            run(json.load(file))

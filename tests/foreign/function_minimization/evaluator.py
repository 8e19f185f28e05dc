"""Evaluator for the function minimization example"""

import concurrent.futures
import importlib.util
import time
import traceback

import numpy as np
from openevolve.evaluation_result import EvaluationResult

GLOBAL_MIN_X, GLOBAL_MIN_Y, GLOBAL_MIN_VALUE = -1.704, 0.678, -1.519


def run_with_timeout(func, args=(), kwargs={}, timeout_seconds=5):  # noqa: B006
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(func, *args, **kwargs)
        try:
            return future.result(timeout=timeout_seconds)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"Function timed out after {timeout_seconds} seconds")  # noqa: B904


def load(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def evaluate(program_path):
    try:
        program = load(program_path)
        if not hasattr(program, "run_search"):
            return EvaluationResult(
                metrics={"combined_score": 0.0, "error": "Missing run_search function"},
                artifacts={"error_type": "MissingFunction"},
            )
        values, distances, times = [], [], []
        for trial in range(4):
            try:
                start = time.time()
                x, y, value = run_with_timeout(program.run_search, timeout_seconds=5)
                times.append(time.time() - start)
                values.append(float(value))
                distances.append(float(np.hypot(x - GLOBAL_MIN_X, y - GLOBAL_MIN_Y)))
            except Exception as e:
                print(f"Trial {trial}: Error - {e!s}")
                print(traceback.format_exc())
        if not values:
            return EvaluationResult(
                metrics={"combined_score": 0.0, "error": "All trials failed"}, artifacts={}
            )
        value_score = float(1.0 / (1.0 + abs(np.mean(values) - GLOBAL_MIN_VALUE)))
        distance_score = float(1.0 / (1.0 + np.mean(distances)))
        return EvaluationResult(
            metrics={
                "value_score": value_score,
                "distance_score": distance_score,
                "reliability_score": np.float64(len(values) / 4),
                "combined_score": 0.6 * value_score + 0.4 * distance_score,
            },
            artifacts={"average_time": f"{np.mean(times):.3f} s", "raw": b"bytes"},
        )
    except Exception as e:
        return EvaluationResult(metrics={"combined_score": 0.0, "error": str(e)}, artifacts={})


def evaluate_stage1(program_path):
    try:
        x, y, _ = run_with_timeout(load(program_path).run_search, timeout_seconds=5)
        near = float(np.hypot(x - GLOBAL_MIN_X, y - GLOBAL_MIN_Y)) < 3
        return EvaluationResult(metrics={"runs_successfully": 1.0, "overall_score": float(near)})
    except Exception as e:
        return EvaluationResult(metrics={"runs_successfully": 0.0, "error": str(e)})


def evaluate_stage2(program_path):
    return evaluate(program_path)

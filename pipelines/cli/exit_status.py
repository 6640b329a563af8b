"""Exit statuses and what they mean."""

import signal

REASONS = {
    0: "complete",
    1: "fault",
    2: "usage",
    3: "over_budget",
    4: "incomplete",
    128 + signal.SIGINT: "interrupted",
    128 + signal.SIGTERM: "interrupted",
}


COMPLETE, FAULT, OVER_BUDGET, INCOMPLETE = 0, 1, 3, 4

"""The performance budget: one file that gates CI, sets alert thresholds and draws dashboard lines.

::

    from taximeter_analysis.budget import Budget, load_budget

    budget = load_budget(Path("budget.yaml"))      # raises BudgetError: path, value, remedy
    limit = budget.limit_for("hotel-chat", "POST", "/hotels/{hotel}/chat", "latency_p95")
    limit.max                                      # seconds, USD, tokens or a share; None: relative only
"""

from taximeter_analysis.budget.loader import BudgetError, default_budget, load_budget
from taximeter_analysis.budget.model import Budget, CacheBudget, Limit, Money, RouteBudget, TenantBudget

__all__ = [
    "Budget",
    "BudgetError",
    "CacheBudget",
    "Limit",
    "Money",
    "RouteBudget",
    "TenantBudget",
    "default_budget",
    "load_budget",
]

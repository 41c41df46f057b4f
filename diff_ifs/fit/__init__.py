"""The search for maps: plan, starts, proposals, objective, judgement."""

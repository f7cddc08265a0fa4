"""Who is told how a run goes: the hooks of plugins, and objects added for one run."""

from __future__ import annotations

from mtlkit.plugins import Plugins
from mtlkit.records import Outcome


class Tracking:
    """Tells trackers the moments of a run; one that fails is blamed by name.

    It keeps no run, which keeps it: a run and its data are freed as soon as nobody needs them.

    Args:
        loaded: the plugins that the recipe was read with.
        is_heard: whether there is anyone to tell; of several ranks only the first talks.
    """

    def __init__(self, loaded: Plugins, is_heard: bool = True) -> None:
        self.loaded, self.is_heard = loaded, is_heard
        self.added = list[object]()

    def add(self, tracker: object) -> None:
        """Tell another object, too, until the run ends.

        Args:
            tracker: has methods marked with `hookimpl`.
        """
        self.loaded.manager.register(tracker)
        self.added.append(tracker)

    def tell(self, hook: str, **what: object) -> None:
        """Call a hook of all trackers.

        Args:
            hook: its name.
            what: its arguments.
        """
        if not self.is_heard:
            return
        with self.loaded.blaming("a tracker fails"):
            getattr(self.loaded.manager.hook, hook)(**what)

    def end(self, run: object, outcome: Outcome) -> None:
        """Tell the end, and forget the objects that were added.

        Args:
            run: handed on.
            outcome: how it ended.
        """
        try:
            self.tell("mtlkit_run_end", run=run, outcome=outcome)
        finally:
            while self.added:
                self.loaded.manager.unregister(self.added.pop())

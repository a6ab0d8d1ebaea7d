"""A stage for the tests of demos that train: it remembers every check."""

import io

from rich.console import Console

from demos.stage import Stage


class Recorder(Stage):
    """A stage that remembers what was checked, so that an error can be planted without training again."""

    def __init__(self, demo, out, plant=None):
        super().__init__(out, plant, Console(file=io.StringIO(), width=200))
        self.demo = demo
        self.calls = []

    @property
    def text(self):
        return self.console.file.getvalue()

    @property
    def failed(self):
        return [name.partition(":")[2] for name, ok in self.checks if not ok]

    def close(self, *arguments, **options):
        self.calls.append((Stage.close, arguments, options))
        return super().close(*arguments, **options)

    def equal(self, *arguments, **options):
        self.calls.append((Stage.equal, arguments, options))
        return super().equal(*arguments, **options)

    def at_least(self, *arguments, **options):
        self.calls.append((Stage.at_least, arguments, options))
        return super().at_least(*arguments, **options)

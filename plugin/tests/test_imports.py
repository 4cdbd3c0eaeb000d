"""The modules of the plugin import each other in one direction."""
import ast
import os
import unittest

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "omflow_booster")


def imports(directory):
    """The modules of a package, each with those of the same package that it imports, within functions too."""
    modules = {name[:-len(".py")] for name in os.listdir(directory) if name.endswith(".py")}
    found = {}
    for module in modules:
        with open(os.path.join(directory, module + ".py"), encoding="utf-8") as source:
            tree = ast.parse(source.read())
        found[module] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found[module].update(name if name in modules else "__init__" for name in names)
    return found


def circle(graph):
    """The modules of one circle, in order; empty if there is none."""
    finished = set()

    def walk(module, path):
        if module in path:
            return path[path.index(module):] + [module]
        if module in finished:
            return []
        for other in sorted(graph[module]):
            found = walk(other, path + [module])
            if found:
                return found
        finished.add(module)
        return []

    for module in sorted(graph):
        found = walk(module, [])
        if found:
            return found
    return []


class ImportTest(unittest.TestCase):
    def test_imports_have_no_circle(self):
        graph = imports(PACKAGE)
        self.assertIn("server", graph["queues"], "imports are found")
        self.assertIn("install", graph["apps"], "those within functions, too")
        self.assertEqual(circle(graph), [])

    def test_circle_is_found(self):
        self.assertEqual(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
        self.assertEqual(circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}), [])


if __name__ == "__main__":
    unittest.main()

"""Runs the unittest tests of a directory and appends one line for each to a results file, for the summary of test.sh.

usage: unittests.py RESULTS DIRECTORY
Line: pass|fail|skip <tab> test <tab> why (of a skipped test)
"""
import sys
import unittest


class Result(unittest.TextTestResult):
    outcome = None  # of the test that runs now; the first thing that went wrong stays

    def startTest(self, test):
        super().startTest(test)
        self.outcome = ("pass", "")

    def stopTest(self, test):
        super().stopTest(test)
        self.write(test, *self.outcome)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.outcome = ("fail", "")

    def addError(self, test, err):
        super().addError(test, err)
        self.outcome = ("fail", "")
        if not isinstance(test, unittest.TestCase):  # setUpClass, setUpModule: no test starts or stops
            self.write(test, *self.outcome)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcome = ("fail", "")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.outcome = ("fail", "")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcome = ("skip", reason)
        if not isinstance(test, unittest.TestCase):
            self.write(test, *self.outcome)

    @staticmethod
    def write(test, outcome, why):
        print(outcome, test.id(), " ".join(why.split()), sep="\t", file=results, flush=True)


if len(sys.argv) != 3:
    sys.exit(__doc__)
with open(sys.argv[1], "a", encoding="utf-8") as results:
    tests = unittest.TestLoader().discover(sys.argv[2])
    ok = unittest.TextTestRunner(stream=sys.stdout, resultclass=Result).run(tests).wasSuccessful()
sys.exit(not ok)

"""The page of a report: HTML made from its JSON data. Needs Jinja2 and matplotlib (the extra ``report``)."""

from spikegen.report.page import Picture as Picture
from spikegen.report.page import html_page as html_page

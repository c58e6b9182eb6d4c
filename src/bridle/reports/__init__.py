"""What a person looks at: image grids, the information plane, and the page that holds a run's whole story.

:mod:`~bridle.reports.grids` lays images out, :mod:`~bridle.reports.record` reads a finished run's folder,
:mod:`~bridle.reports.information_plane` draws it, :mod:`~bridle.reports.page` writes the HTML report. Nothing is
imported here, so that a grid can be made without loading matplotlib.
"""

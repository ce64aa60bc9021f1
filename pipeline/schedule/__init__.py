"""Runs at fixed times: fire times recorded in the lake, so that each is decided exactly once.

::

    spec      a schedule as a value: cron, time zone, jitter, limits, what happens to late fires
    times     the instants that a cron expression names, across daylight saving
    book      the record in the lake: events of fires (`_fires`), schedules (`_schedules`)
    decide    what is to be done now: a pure function of schedule, record and clock
    daemon    the loop; `work` starts the runs, `child` is what they are
    control   list, next, history, pause, resume, backfill, stop
"""

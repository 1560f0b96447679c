"""
The live view of a fleet, `ccproxy top`.

    fleet_view      what is shown: a thread keeps it up to date
    view_text       its cells and sentences, pure
    plain_view      shows it without Textual: a refreshed screen, or sentences for screen readers
    dashboard       shows it with Textual, which is imported with this module only
"""

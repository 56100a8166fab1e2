"""The least Flask application: a greeting, and a health check."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return f"{os.environ.get('GREETING', 'hello')} from release {os.environ['INSTAR_RELEASE']}\n"


@app.get("/healthz")
def healthz() -> str:
    return "ok\n"

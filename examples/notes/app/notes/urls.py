import os

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from notes.models import Note


@csrf_exempt
def notes(request):
    if request.method == "POST":
        Note.objects.create(text=request.body.decode())
    lines = [f"{note.text}\n" for note in Note.objects.order_by("-id")[:20]]
    answer = HttpResponse("".join(lines), content_type="text/plain")
    answer["X-Release"] = os.environ["INSTAR_RELEASE"]
    return answer


def healthz(request):
    """Whether this process is well; the database's health is its own environment's."""
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [path("", notes), path("healthz", healthz), path("admin/", admin.site.urls)]

"""Every HTTP route of the platform."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, path, register_converter
from django.urls.converters import StringConverter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from executions.task_views import TaskExecutionViewSet, TaskOutputViewSet, TaskStatusViewSet
from executions.views import FlowExecutionViewSet, FlowViewSet
from flowplatform import health
from flowplatform.metrics.endpoint import metrics
from flowplatform.pages.execution import ExecutionPage, ExecutionSnapshot
from flowplatform.pages.flow_page import FlowPage
from flowplatform.pages.flows import FlowListPage
from flowplatform.pages.list_exports import FlowExport, HistoryExport, TagsExport, TasksExport
from flowplatform.pages.review import ReviewExport, review_page
from notifications.views import EventViewSet
from tags.views import TaskTagViewSet


class IdConverter(StringConverter):
    """A path parameter that should be a UUID: one that is none is 422, as the contract says, not a missing page."""


register_converter(IdConverter, "id")

api: list[URLPattern] = [
    # What workers and reviewers send all the time stands first: Django tries one pattern after the other.
    path(
        "api/flow-executions/<id:flow_execution_id>/task-status",
        TaskStatusViewSet.as_view({"get": "list", "post": "create"}),
    ),
    path("api/task-tags", TaskTagViewSet.as_view({"get": "list", "patch": "change"})),
    path("api/flows", FlowViewSet.as_view({"get": "list", "post": "create"})),
    path("api/flows/<id:flow_id>", FlowViewSet.as_view({"get": "retrieve"})),
    path("api/flows/<id:flow_id>/definition", FlowViewSet.as_view({"put": "replace_definition"})),
    path("api/flows/<id:flow_id>/events", EventViewSet.as_view({"get": "list"})),
    path("api/flow-executions", FlowExecutionViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "api/flow-executions/<id:flow_execution_id>",
        FlowExecutionViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
    path("api/flow-executions/<id:flow_execution_id>/cancel", FlowExecutionViewSet.as_view({"post": "cancel"})),
    path("api/flow-executions/<id:flow_execution_id>/execute", FlowExecutionViewSet.as_view({"post": "execute"})),
    path("api/flow-executions/<id:flow_execution_id>/status", FlowExecutionViewSet.as_view({"patch": "set_status"})),
    path("api/task-executions", TaskExecutionViewSet.as_view({"get": "list", "post": "create", "put": "edit"})),
    path("api/task-executions/<id:task_execution_id>", TaskExecutionViewSet.as_view({"get": "retrieve"})),
    path("api/task-outputs", TaskOutputViewSet.as_view({"get": "list", "post": "create"})),
    path("api/task-outputs/<id:task_output_id>", TaskOutputViewSet.as_view({"get": "retrieve"})),
]

documentation: list[URLPattern] = [
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="api-docs"),
]

# For those who keep the platform running: asked by any name and without a credential (`OperationsMiddleware`).
operations: list[URLPattern] = [
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics, name="metrics"),
]

pages: list[URLPattern | URLResolver] = [
    path("", FlowListPage.as_view(), name="flow-list-page"),
    path("flows/<uuid:flow_id>/", FlowPage.as_view(), name="flow-page"),
    path("flows/<uuid:flow_id>/export.<str:file_type>", FlowExport.as_view(), name="flow-export"),
    path("executions/<uuid:flow_execution_id>/", ExecutionPage.as_view(), name="execution-page"),
    path("executions/<uuid:flow_execution_id>/snapshot", ExecutionSnapshot.as_view(), name="execution-snapshot"),
    path("executions/<uuid:flow_execution_id>/tasks.<str:file_type>", TasksExport.as_view(), name="tasks-export"),
    path("executions/<uuid:flow_execution_id>/history.<str:file_type>", HistoryExport.as_view(), name="history-export"),
    path("executions/<uuid:flow_execution_id>/tags.<str:file_type>", TagsExport.as_view(), name="tags-export"),
    path("review/", review_page, name="review-page"),
    path("review/export.<str:file_type>", ReviewExport.as_view(), name="review-export"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

urlpatterns = [*api, *documentation, *operations, *pages]

handler400 = "flowplatform.errors.bad_request"
handler403 = "flowplatform.errors.permission_denied"
handler404 = "flowplatform.errors.not_found"
handler500 = "flowplatform.errors.server_error"
